"""Real servers from pip alone: PostgreSQL, Apache Kafka and a mock provider on one machine."""
