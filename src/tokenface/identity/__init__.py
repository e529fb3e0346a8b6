"""Who a face is, as a vector: encoders for the identity loss (Eq. 10)."""

from tokenface.identity.encoder import load_identity_encoder
from tokenface.identity.interface import IdentityEncoder

__all__ = ["IdentityEncoder", "load_identity_encoder"]
