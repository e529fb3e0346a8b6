"""From the network's answer to a closer one: refinement on the face mesh's points and the photo's pixels."""
