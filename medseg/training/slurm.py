"""The script with which SLURM trains every fold as a job of its own."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from medseg.model.file import FOLD

TASK = "${SLURM_ARRAY_TASK_ID}"


def array_script(recipe: str | Path, data: Path, out: Path, folds: int, options: Sequence[str] = ()) -> str:
    """A job array with a task a fold; the folds join when the last command of its first lines is run.

    Args:
        recipe: of the training.
        data: the dataset.
        out: folder of the run.
        folds: number of folds.
        options: further words of the command line, the same for each fold.

    >>> print(array_script("mine.toml", Path("my scans"), Path("run"), 5, ["--epochs", "30"]), end="")
    #!/bin/bash
    # Submit with sbatch. When all tasks have ended, join them with:
    #   medseg train mine.toml --data 'my scans' -o run --folds 5 --epochs 30
    #SBATCH --job-name=medseg
    #SBATCH --array=0-4
    #SBATCH --output=medseg_%A_%a.log
    set -euo pipefail
    exec medseg train mine.toml --data 'my scans' -o run/fold_${SLURM_ARRAY_TASK_ID} --folds 5 \
--fold ${SLURM_ARRAY_TASK_ID} --epochs 30
    """
    words = ["medseg", "train", str(recipe), "--data", str(data), "-o"]
    more = shlex.join(options)
    start, place = shlex.join(words), shlex.quote(str(out))
    return "\n".join(
        (
            "#!/bin/bash",
            "# Submit with sbatch. When all tasks have ended, join them with:",
            f"#   {start} {place} --folds {folds} {more}".rstrip(),
            "#SBATCH --job-name=medseg",
            f"#SBATCH --array=0-{folds - 1}",
            "#SBATCH --output=medseg_%A_%a.log",
            "set -euo pipefail",
            f"exec {start} {place}/{FOLD}{TASK} --folds {folds} --fold {TASK} {more}".rstrip(),
            "",
        )
    )
