"""Der Preisdienst als Endpunkt von Amazon SageMaker."""
