"""Der Preisrechner mit Gradio."""
