"""What stands around a head in a synthetic picture: hair, clothes, glasses, hats, hands, lamps, paint on the skin."""
