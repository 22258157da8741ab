"""Training state that survives a kill at any moment: whole checkpoints or none.

    RUN/step-00000120/   state.json, tensors/ (parameters and both moments of AdamW)

A checkpoint is written beside its place and renamed at the end; the two latest are kept.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn, optim

from qzoom.errors import InvalidRequest
from training.stages.pieces import read_pieces, write_pieces

_KEPT = 2


@dataclass(frozen=True, slots=True)
class TrainingState:
    """What a checkpoint says beside its tensors.

    Attributes:
        step: Steps that are done.
        spent_s: Seconds that they took.
        run: What is trained, how, on what; a resumed run must say the same.
    """

    step: int
    spent_s: float
    run: Mapping[str, Any]


def save_checkpoint(
    folder: Path,
    state: TrainingState,
    parameters: Mapping[str, nn.Parameter],
    optimizer: optim.AdamW,
) -> None:
    """Write a checkpoint; a kill leaves the former one."""
    name = f"step-{state.step:08d}"
    part, final = folder / f"{name}.part", folder / name
    shutil.rmtree(part, ignore_errors=True)
    tensors: dict[str, Tensor] = {}
    for key, parameter in parameters.items():
        tensors[f"parameter/{key}"] = parameter
        for moment in ("exp_avg", "exp_avg_sq"):
            value = optimizer.state.get(parameter, {}).get(moment)
            if value is not None:
                tensors[f"{moment}/{key}"] = value
    part.mkdir(parents=True)
    write_pieces(part / "tensors", tensors)
    values = {"step": state.step, "spent_s": state.spent_s, "run": dict(state.run)}
    (part / "state.json").write_text(json.dumps(values), encoding="utf-8")
    shutil.rmtree(final, ignore_errors=True)
    os.replace(part, final)
    for old in sorted(folder.glob("step-????????"))[:-_KEPT]:
        shutil.rmtree(old)


def load_checkpoint(
    folder: Path,
    run: Mapping[str, Any],
    parameters: Mapping[str, nn.Parameter],
    optimizer: optim.AdamW,
) -> TrainingState | None:
    """Go on from the latest checkpoint; None where there is none.

    Raises:
        InvalidRequest: If it belongs to another run, naming the field and the two values.
    """
    found = sorted(folder.glob("step-????????"))
    if not found:
        return None
    try:
        values = json.loads((found[-1] / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{found[-1]} cannot be read: {error}") from error
    stored, asked = values["run"], json.loads(json.dumps(dict(run)))
    for name in sorted({*stored, *asked}):
        if stored.get(name) != asked.get(name):
            raise InvalidRequest(
                f"{found[-1]} was trained with {name} = {stored.get(name)!r}, asked for is "
                f"{asked.get(name)!r}; give another folder, or the same settings"
            )
    for key, tensor in read_pieces(found[-1] / "tensors"):
        kind, _, name = key.partition("/")
        parameter = parameters[name]
        if kind == "parameter":
            parameter.data.copy_(tensor)
        else:
            optimizer.state[parameter][kind] = tensor.to(parameter.device)
    for parameter in parameters.values():
        if "exp_avg" in optimizer.state[parameter]:
            step = parameter.new_tensor(float(values["step"]), device="cpu")
            optimizer.state[parameter]["step"] = step
    return TrainingState(values["step"], values["spent_s"], stored)
