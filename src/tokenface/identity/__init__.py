"""Face recognition encoders, for the identity loss (Eq. 10) and for grouping people."""

from tokenface.identity.alignment import IdentityEncoder
from tokenface.identity.encoder import load_identity_encoder

__all__ = ["IdentityEncoder", "load_identity_encoder"]
