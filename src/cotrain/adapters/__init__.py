"""The instruments inside other people's training loops: a thin adapter for each, imported only when it is used.

`cotrain.adapters.lightning_callback` is for a Lightning Trainer (`pip install "cotrain[lightning]"`),
`cotrain.adapters.trainer_callback` for a Hugging Face Trainer (`pip install "cotrain[transformers]"`).
"""
