"""Intake: from a Kafka record's bytes to a job, a rejection, a dead letter or a cancel."""
