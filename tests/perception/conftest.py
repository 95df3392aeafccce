from __future__ import annotations

import pytest
from projected_face import ScriptedLandmarker, project


@pytest.fixture
def landmarker() -> ScriptedLandmarker:
    return ScriptedLandmarker((project(),))
