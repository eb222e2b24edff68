"""The prompt run once per group: caches, attention, packed rows."""
