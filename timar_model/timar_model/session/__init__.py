"""One conversation or several: state, key/value cache, sampling of motion, rollback."""

from timar_model.session.session import Session

__all__ = ["Session"]
