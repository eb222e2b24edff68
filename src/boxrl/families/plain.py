"""No model in particular: JSON in pixels of the original image."""

from boxrl.families.record import Family

PLAIN = Family(name="plain", frame="original")
