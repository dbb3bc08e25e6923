"""Tessera: Mamba models that learn to predict and play Go from games played on the GPU."""
