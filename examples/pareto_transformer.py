"""One transformer for every trade-off between two tasks, in your own loop; the preference is chosen afterwards."""

import torch
from torch import nn

from cotrain import Batch, Task
from cotrain.pareto import ParetoManifold, ParetoObjective


class Reader(nn.Module):  # any module: nothing in it knows of preferences
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(6, 16)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 16, 0.0, batch_first=True), 1)
        self.heads = nn.ModuleDict({"most": nn.Linear(16, 6), "twos": nn.Linear(16, 1)})

    def forward(self, words):
        features = self.encoder(self.embed(words)).mean(1)
        return {name: head(features) for name, head in self.heads.items()}


torch.manual_seed(0)
words = torch.randint(0, 6, (1500, 8))
targets = torch.stack([words.mode(1).values, (words == 2).sum(1)], dim=1).float()
train, valid, test = ((words[part], targets[part]) for part in torch.arange(1500).split(500))
tasks = [Task("most", "multiclass", 6), Task("twos", "regression", location=1.3, scale=1.1)]
manifold = ParetoManifold(Reader(), tasks, example=words[:2])  # the encoder follows the preference, the heads do not
objective = ParetoObjective(manifold, rays=4)
optimizer = torch.optim.Adam(manifold.parameters(), lr=1e-2)
for _ in range(12):
    for index in torch.randperm(500).split(50):
        optimizer.zero_grad()
        objective.backward(Batch(index, train[0][index], train[1][index]))  # instead of loss.backward()
        optimizer.step()

front = manifold.front(valid)
print(front)
choice = front.choose(maximize="most", subject_to={"mae/twos": "<= 0.09"})
print(choice)
print("on other samples:", manifold.front(test, choice.preference).metrics.tolist())
print("to deploy:", type(manifold.export(choice.preference)).__name__)  # plain weights, no trace of cotrain
