"""Scene around a synthetic head: hair, clothes, glasses, hats, occluders, lights, skin paint."""
