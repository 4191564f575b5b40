"""Making apart from measuring (architecture, decision 11): models, inputs, references and tolerances in one folder."""
