"""fault_driver.py for fine-tuning runs, which may also be killed in the middle of an optimizer step.

A request may hold, besides what is said there,
    step: the process is killed (SIGKILL) in the update that follows so many updates, its gradient computed
"""

import json
import os
import signal
import sys
from typing import Any, NoReturn

import fault_driver
import peft  # noqa: F401

import curate.finetuning.training  # noqa: F401
from curate.gradient import Gradient

plain_child = fault_driver.child


def child(request: dict[str, Any], pipe: int) -> NoReturn:
    if "step" in request:
        real = Gradient.__call__

        def deadly(self: Gradient, **arguments: Any) -> float:
            loss = real(self, **arguments)
            if self.step == request["step"]:
                os.kill(os.getpid(), signal.SIGKILL)
            return loss

        Gradient.__call__ = deadly  # type: ignore[method-assign]
    plain_child(request, pipe)


if __name__ == "__main__":
    fault_driver.child = child
    for line in sys.stdin:
        print(json.dumps(fault_driver.serve(json.loads(line))), flush=True)
