"""The prompt of ``bottomhalf sh``: where its lines come from, and what they are made of."""
