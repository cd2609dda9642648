"""What belongs to the experiments alone: networks, data, tables and figures."""
