"""The evaluation: protocols, the judge that attacks under them, checks for gradient masking, records per example."""
