"""What goes out on Kafka: results, replies, deltas, usage and dead letters as messages."""
