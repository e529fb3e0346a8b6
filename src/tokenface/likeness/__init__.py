"""A second look at the identity: the photo seen on the answered surface says how the person differs from the answer."""
