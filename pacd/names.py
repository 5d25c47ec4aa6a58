"""The names of data sets, trainers, networks and attacks, apart from what they name: a typo is found before torch is loaded.

``losses.TRAINERS`` and ``models.MODELS`` look their functions up by these names; the tests hold the others equal to what they name.
"""

TORCHVISION = {
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "cifar10": "CIFAR10",
}  # and their classes in torchvision.datasets
TRAINERS = ("standard", "gaussian", "smoothadv", "macer")
ARCHITECTURES = ("lenet", "mlp", "cnn", "resnet20", "resnet56", "vgg")
NORMALISATIONS = ("centred", "none", "mnist")
METHODS = ("first_order", "cg", "neumann", "approxgrad", "accuracy", "gradient_matching")
SEARCHES = ("direct_search",)
BASELINES = (
    "uniform",
    "checkerboard",
    "random_sign",
    "random_uniform",
    "low_frequency",
    "mean_difference",
    "error_minimising",
    "robust_error_minimising",
    "class_wise_learned",
)
CURATIONS = (
    "none",
    "lowpass",
    "jpeg",
    "black_point",
    "levels",
    "remove_knn_pixels",
    "remove_knn_features",
    "remove_spectral",
    "remove_high_loss",
    "remove_low_loss",
    "remove_background",
)
