"""Programs of the emulated machine; importing this package registers them."""
