"""Der Preisrechner als Space und das Modell als Repository des Hugging Face Hubs."""
