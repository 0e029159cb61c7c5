"""Der Preisdienst als Endpunkt der Google Agent Platform, früher Vertex AI."""
