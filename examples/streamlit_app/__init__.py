"""Der Preisrechner als Datenanwendung mit Streamlit."""
