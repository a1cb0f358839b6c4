"""ConvNeXt of PaddleClas, in small. Prints the mean square of the answer."""

import paddle
from paddleclas.ppcls.arch.backbone.model_zoo.convnext import ConvNeXt


def main():
    paddle.seed(0)
    model = ConvNeXt(class_num=100, depths=[2, 2, 4, 2], dims=[48, 96, 192, 384])
    model.eval()
    image = paddle.randn([1, 3, 128, 128])
    with paddle.no_grad():
        for _ in range(30):
            answer = model(image)
    print(f"mean square {float((answer**2).mean()):.6f}")


if __name__ == "__main__":
    main()
