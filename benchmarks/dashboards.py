"""A W&B workspace for the zoo's runs: `make dashboards ARGS="--entity NAME"`; `--print` shows it and sends nothing.

Its panels name what `configs/overlays/wandb.yaml` logs; a test compares the two.
"""

import argparse
import json
import sys
from typing import Any

from rrsis_zoo.errors import ConfigError, RRSISError
from rrsis_zoo.training.loggers import has_api_key

PRECISION = [f"pr@{threshold}" for threshold in (0.5, 0.6, 0.7, 0.8, 0.9)]


def workspace(entity: str, project: str) -> Any:
    """Return the workspace, a `wandb_workspaces.workspaces.Workspace`; nothing is sent.

    Raises:
        ConfigError: the workspace library is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as panels
        import wandb_workspaces.workspaces as spaces
    except ImportError as error:
        raise ConfigError("dashboards need W&B's workspace library: pip install 'rrsis-zoo[dashboards]'") from error

    def lines(title: str, *metrics: str, **options: Any) -> Any:
        return panels.LinePlot(title=title, x="trainer/global_step", y=list(metrics), **options)

    def bars(title: str, *metrics: str) -> Any:
        """A score under one protocol is no score under another: bars of different protocols are groups apart."""
        return panels.BarPlot(title=title, metrics=list(metrics), groupby=panels.Config("protocol"), title_x="%")

    def table(name: str) -> Any:
        return panels.WeavePanelSummaryTable(table_name=name, layout=panels.Layout(w=24, h=10))

    sections = [
        spaces.Section(
            name="Quality by protocol",
            is_open=True,
            panels=[
                bars("test: mIoU", "test/miou"),
                bars("test: oIoU", "test/oiou"),
                bars("test: Pr@t", *(f"test/{name}" for name in PRECISION)),
                lines("val: mIoU", "val/miou"),
                lines("val: oIoU", "val/oiou"),
                lines("val: Pr@t", *(f"val/{name}" for name in PRECISION)),
            ],
        ),
        spaces.Section(
            name="Training",
            is_open=True,
            panels=[
                lines("loss", "train/loss", smoothing_type="exponentialTimeWeighted", smoothing_factor=0.9),
                lines("terms of the loss, readings", metric_regex="train/.*"),
                lines("learning rates", metric_regex="lr-AdamW.*", log_y=True),
            ],
        ),
        spaces.Section(
            name="Gradients",
            panels=[
                lines("norm of all gradients", "gradients/total", log_y=True),
                lines("norm by parameter group", metric_regex="gradients/.*", log_y=True),
            ],
        ),
        spaces.Section(
            name="Predictions",
            is_open=True,
            panels=[
                panels.MediaBrowser(title="validation", media_keys=["val/predictions"], num_columns=2),
                table("test/predictions"),
            ],
        ),
        spaces.Section(
            name="Per category",
            panels=[table(f"test/per_{name}") for name in ("category", "kind", "size", "words", "length")],
        ),
    ]
    return spaces.Workspace(
        entity=entity,
        project=project,
        name="rrsis-zoo",
        sections=sections,
        settings=spaces.WorkspaceSettings(x_axis="trainer/global_step", max_runs=20),
        runset_settings=spaces.RunsetSettings(
            pinned_columns=["config:method", "config:protocol", "config:stage", "summary:val/miou", "summary:test/miou"]
        ),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entity", required=True, help="user or team of the project")
    parser.add_argument("--project", default="rrsis-zoo", help="the project, which must exist")
    parser.add_argument("--print", action="store_true", help="write it to the standard output as JSON, send nothing")
    options = parser.parse_args()
    made = workspace(options.entity, options.project)
    if options.print:
        print(json.dumps(made._spec, indent=1))  # the library's own form, which it has no public name for
        return 0
    if not has_api_key():
        raise ConfigError("no W&B account is set up here: run `wandb login`, or look at the workspace with --print")
    print(f"wrote {made.save().url}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RRSISError as error:
        print(f"dashboards: {error}", file=sys.stderr)
        sys.exit(2)
