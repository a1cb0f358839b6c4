"""A transformer encoder for sentences of any length; the forward looks at values first, and answers with a dict."""

import paddle
from paddle import nn

WORDS = 100


class Tagger(nn.Layer):
    def __init__(self, width=128, depth=4):
        super().__init__()
        self.embed = nn.Embedding(WORDS, width)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0), depth)
        self.head = nn.Linear(width, 9)

    def forward(self, tokens, mask=None, limit=WORDS):
        if int(tokens.numpy().max()) >= limit:
            raise ValueError("unknown word")
        encoded = self.encoder(self.embed(tokens), src_mask=mask)
        return {"tags": self.head(encoded), "scheme": "bio"}


if __name__ == "__main__":
    paddle.seed(0)
    model = Tagger()
    model.eval()
    with paddle.no_grad():
        for length in (32, 48, 64, 32, 48, 64, 40, 56):
            tagged = model(paddle.randint(0, WORDS, [1, length]), mask=paddle.zeros([1, 1, length, length]))
    print(tagged["tags"].shape)
