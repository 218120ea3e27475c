"""Weights in and out: this project's, slim's and Keras'."""
