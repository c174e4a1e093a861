"""The float graph: what the importers make, and how it runs in fp32."""
