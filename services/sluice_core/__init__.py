"""What the gateway knows: one folder a feature, siblings all."""
