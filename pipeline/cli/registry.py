"""The registry of commands. To add one, write its file and list it here."""

from __future__ import annotations

from pipeline.cli.cluster import doctor, jobs, launch, logs, resume, stop, watch
from pipeline.cli.command import Command
from pipeline.cli.data import adopt, demo, inspect, prepare, sample
from pipeline.cli.release import (
    benchmark,
    compare,
    export,
    fetch,
    predict,
    publish,
    register,
    registry,
    report,
    table,
)
from pipeline.cli.training import (
    certify,
    config,
    dashboard,
    data_service,
    diagnose,
    evaluate,
    import_checkpoint,
    plan,
    recipes,
    runs,
    train,
    variants,
)

# In the order of the help.
COMMANDS: list[Command] = [
    module.COMMAND
    for module in (
        *(demo, sample, prepare, adopt, inspect),
        *(variants, recipes, config, plan, diagnose, certify, train, evaluate),
        *(runs, dashboard, data_service, import_checkpoint),
        *(export, predict, benchmark, publish, register, fetch, compare, report, table, registry),
        *(launch, jobs, logs, stop, resume, watch, doctor),
    )
]
