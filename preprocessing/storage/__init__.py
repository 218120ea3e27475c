"""Files that appear complete or not at all, on a local disk or in a bucket."""

from preprocessing.storage.checksums import crc32c, digest_of, digest_of_file, stored_crc32c
from preprocessing.storage.downloads import download
from preprocessing.storage.folders import (
    copy_file,
    download_folder,
    is_unfinished_upload,
    list_files,
    upload_file,
    upload_folder,
)
from preprocessing.storage.json_files import json_bytes, parse_json, read_json, write_json
from preprocessing.storage.listing import (
    Entry,
    exists,
    list_entries,
    list_names,
    list_sizes,
    size_bytes,
    version_of,
)
from preprocessing.storage.locks import LockedError, exclusive, lock_file
from preprocessing.storage.paths import PARTIAL, is_remote, join
from preprocessing.storage.reading import open_read, read_bytes, read_ranges
from preprocessing.storage.temporary import temporary_folder
from preprocessing.storage.writing import (
    make_folder,
    move_into,
    open_write,
    publish_folder,
    remove,
    update_bytes,
    write_bytes,
)

__all__ = [
    "PARTIAL",
    "Entry",
    "LockedError",
    "contracts",
    "copy_file",
    "crc32c",
    "digest_of",
    "digest_of_file",
    "download",
    "download_folder",
    "exclusive",
    "exists",
    "is_remote",
    "is_unfinished_upload",
    "join",
    "json_bytes",
    "leases",
    "list_entries",
    "list_files",
    "list_names",
    "list_sizes",
    "lock_file",
    "make_folder",
    "map_ahead",
    "move_into",
    "open_read",
    "open_write",
    "parse_json",
    "publish_folder",
    "read_bytes",
    "read_json",
    "read_ranges",
    "remove",
    "size_bytes",
    "spool",
    "stored_crc32c",
    "temporary_folder",
    "tgz",
    "update_bytes",
    "upload_file",
    "upload_folder",
    "version_of",
    "write_bytes",
    "write_json",
]
