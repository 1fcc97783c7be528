"""Compiles the kernels when Hatchling builds the package.

Without a C compiler, the package is built without the kernels.
"""

from __future__ import annotations

import importlib.util
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class KernelsBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """A build hook that adds the library to the wheel and sets the wheel's tag.

    The wheel is for one platform, but for every Python 3, since the library does not link to Python.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            return
        spec = importlib.util.spec_from_file_location("kernels_build", Path(self.root, "kernels", "build.py"))
        assert spec is not None
        assert spec.loader is not None
        build = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(build)
        try:
            build.build()
        except build.CompileError as error:
            build.remove()
            self.app.display_warning(f"The native kernels are not compiled, and onnxruntime's are used: {error}")
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
