"""Errors that a user can act on: each message names what was expected, what came, and what to do."""


class TokenFaceError(Exception):
    """Base of every error that the command line prints as one line; its text is for people."""


def plain_words(error: object) -> str:
    """An error's text without advice that only the command line can follow: what a server tells its visitors."""
    clauses = " ".join(str(error).split()).split("; ")
    kept = [clause for clause in clauses if " --" not in clause and "(--" not in clause and "'tokenface " not in clause]
    return "; ".join(kept or clauses[:1])


class HeadModelError(TokenFaceError):
    """A head-model file is missing, malformed, or not the one that is needed."""


class ImageError(TokenFaceError):
    """A picture cannot be read, or is too large to be read safely."""


class CheckpointError(TokenFaceError):
    """Weights are missing, unreadable, or made for another head model."""


class ConfigError(TokenFaceError):
    """A configuration has an unknown key or an impossible value."""


class ModelFileError(TokenFaceError):
    """A third-party model file (face detector, face mesh) cannot be fetched or is corrupt."""


class OutputError(TokenFaceError):
    """A result cannot be written (permission, full disk, path outside its folder)."""


class VideoError(TokenFaceError):
    """A video cannot be opened, decoded or written, or has no frames."""


class DataError(TokenFaceError):
    """A data set, a shard or a record in it cannot be read."""


class EvaluationError(TokenFaceError):
    """A benchmark's file, a prediction or its landmarks cannot be used."""
