"""Der Preisdienst als Online-Endpunkt von Azure Machine Learning."""
