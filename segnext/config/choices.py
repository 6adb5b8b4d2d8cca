"""Who made the choices that are not fields of a configuration: constants, and how a function does its work.

A key is `module:name`, where the name is a path of attributes or dictionary keys; a test checks that each exists. The
docstrings say what the code does; this table says who chose it, and pages read it without importing torch.
"""

from __future__ import annotations

from collections.abc import Mapping

from segnext.config.fields import Choice, official, ours, paper, van

IN_CODE: Mapping[str, tuple[Choice, ...]] = {
    # Architecture
    "segnext.config.architecture:SIZES.micro": (
        ours("the stand-in that `--protocol quick` trains, small enough for minutes on one CPU core"),
    ),
    "segnext.config.architecture:SIZES.microscope": (
        ours("one block at stride 4 and nothing after it, so that how far it sees can be counted"),
    ),
    "segnext.config.architecture:SIZES.microscope-wide": (
        ours("as many parameters without the two long branches as `microscope` has with them"),
    ),
    "segnext.config.architecture:ENCODERS.mscan": (paper("Sec. 3.1"),),
    "segnext.config.architecture:ENCODERS.van": (
        van("B0 to B3 have the channels, depths and ratios of MSCAN-T to L (VAN, Table 2)"),
    ),
    "segnext.config.architecture:DECODER_STAGES": (paper("Fig. 3"),),
    "segnext.mscan:LAYER_SCALE": (official("mscan.py:131-135", "absent from the paper"),),
    "segnext.mscan:_epsilon": (official("van.py, partial(LayerNorm, eps=1e-6); mscan.py:215"),),
    "segnext.mscan:Stage": (
        paper("each down-sampling is one 3x3 convolution with stride 2 and a BN"),
        official(
            "MSCAN's first stage has two (mscan.py:42-50), VAN's one 7x7 with stride 4 (van.py), and every stage ends "
            "in a LayerNorm (mscan.py:215)"
        ),
    ),
    "segnext.mscan:initialise": (
        official("convolutions normal with std sqrt(2 / fan-out), biases zero (mscan.py, init_weights)"),
    ),
    "segnext.model:MSCANClassifier": (
        van("the mean of the normalised pixels, then one linear layer (issue 33)", "the paper is silent"),
    ),
    "segnext.decoder:resize": (
        official("called on every map, also on those that have the size already", "the paper's FLOPs count them"),
    ),
    "segnext.decoder:MLPDecoder": (official("the SegformerHead that the release carries, with BN and ReLU"),),
    "segnext.decoder:Decoder.initialise": (official("mmcv's: Kaiming before a ReLU, std 0.01 for the classifier"),),
    "segnext.context:head_norm": (official("GN with 32 groups", "the paper names no other than BN"),),
    "segnext.context:MSCAHead.initialise": (ours("as the same module in the encoder"),),
    "segnext.ham:EPSILON": (official("keeps the multiplicative updates from dividing by zero"),),
    "segnext.ham:INVERSE_TEMPERATURE": (
        official("ham_head.py:107 forces 1 whatever the config says", "the paper's FLOPs count it"),
    ),
    "segnext.ham:NMF": (
        official(
            "codes start at softmax(X^T bases), 6 steps in training and 7 in evaluation, then a last update of the "
            "codes; the gradient flows through all of it, for `no_grad` is commented out (ham_head.py:45)",
            "JSeg and HamNet: through the last update and the reconstruction alone",
        ),
    ),
    "segnext.ham:NMF.initial_bases": (
        official("fresh uniform numbers at every pass, also at test time, so that two evaluations differ"),
        ours("by sample in training, one seeded draw in evaluation"),
    ),
    "segnext.ham:Hamburger": (official("ham_head.py"),),
    "segnext.stochastic:DropPath": (official("timm's DropPath on both residuals"),),
    "segnext.stochastic:ChannelDropout": (official("Dropout2d in the head"),),
    # Training
    "segnext.training.segmentation:segmentation_loss": (
        official(
            "summed over labelled pixels and divided by all pixels, ignored ones included",
            "PyTorch's own mean divides by the labelled ones",
        ),
    ),
    "segnext.training.segmentation:parameter_groups": (
        official("`head` learns faster, `norm` is not decayed, decided on the released names"),
    ),
    "segnext.training.classification:Classification": (
        ours(
            "BatchNorm sees what is passed together on all GPUs, and images flow over the end of an epoch",
            "VAN: each GPU's 128 samples; the last 143 images of each epoch are left out",
        ),
    ),
    "segnext.released_weights:load_initial": (
        ours(
            "of a segmentor for other classes everything but the layer that scores them is loaded",
            "the paper is silent, mmsegmentation's `load_from` does so, but says nothing of other keys",
        ),
    ),
    "segnext.distributed:TIMEOUT": (
        ours("longer than compiling or saving takes", "torch's own are 10 minutes (nccl) and 30 (gloo)"),
    ),
    # Data
    "segnext.data.source:IGNORE": (official("the label of pixels that neither train nor count, in every dataset"),),
    "segnext.data.images:read_image": (
        ours(
            "an EXIF orientation is not followed, in images and labels alike",
            "the release follows it in images alone, so that a turned image loses its label",
        ),
    ),
    "segnext.data.imagenet:ClassFolderSource.load": (
        official("timm's and torchvision's loaders, `Image.open(...).convert(\"RGB\")`"),
    ),
    "segnext.data.datasets:VOC2012.splits.aug": (official("the labels of train are VOC's own, those of aug SBD's"),),
    "segnext.data.datasets:PASCAL_CONTEXT.values": (
        ours("59 classes, 0 = background ignored", "the paper does not say whether it counts"),
    ),
    "segnext.data.datasets:COCO_VOC.values": (
        ours("COCO's 20 things that VOC has are VOC's classes, all else is background, unlabelled stays ignored"),
    ),
    "segnext.data.classes:ISAID": (official("the colours in which its labels are drawn"),),
    "segnext.data.classes:CITYSCAPES_IDS": (
        official("cityscapesScripts' labels.py, which calls the other labels' trainId 255 (or -1)"),
    ),
    "segnext.data.tools.convert_isaid:TILINGS": (official("(patch, overlap) of the PyTorch and the Jittor release"),),
    "segnext.data.tools.convert_isaid:starts": (
        official(
            "the same positions, where the shifted tiles repeat those before them and are written over each other"
        ),
    ),
    "segnext.data.tools.convert_isaid:isaid_tiles": (
        ours(
            "every tile has the patch's size",
            "the PyTorch release leaves a side unpadded where the other is exactly the patch; the Jittor release keeps "
            "an image whole that is not larger both ways and leaves out P1527 and P1530",
        ),
    ),
    "segnext.data.tools.convert_isaid:isaid_label": (official("a colour of no class is background"),),
    "segnext.data.tools.convert_labels:COCO_GAPS": (official("ids of the 182 that no image has"),),
    "segnext.data.tools.convert_labels:CONTEXT_VALUES": (
        official("of the 459 ids, those of the 60 classes: background, then sorted, which is by name"),
    ),
    "segnext.data.tools.convert_labels:cityscapes": (
        official("mmsegmentation draws the labels from the polygons with cityscapesScripts"),
        ours("the label images that the download holds are recoded, which needs no polygons"),
    ),
    "segnext.data.tools.convert_labels:voc2012": (
        ours("the lists are sorted", "the release leaves them in the order of a Python set"),
    ),
    "segnext.data.tools.convert_labels:pascal_context": (
        official("mmsegmentation takes the labels from the JSON through the Detail API; here they are read directly"),
    ),
    "segnext.data.transforms:MEAN": (official("img_norm_cfg, red, green, blue, in grey levels"),),
    "segnext.data.transforms:BRIGHTNESS": (official("PhotoMetricDistortion's defaults"),),
    "segnext.data.transforms:CROP_TRIES": (official("RandomCrop.__call__, redraws of a crop that one class fills"),),
    "segnext.data.transforms:train_sample": (official("the train pipeline"),),
    "segnext.data.transforms:test_size": (official("Resize(keep_ratio) and ResizeToMultiple of the test pipeline"),),
    "segnext.data.transforms:tested_pixels": (
        official("the image is resampled twice, to the fitted size and from there to the multiple"),
    ),
    "segnext.data.transforms:crop_window": (
        official("a window that one class fills is drawn anew, up to 10 times; the last is taken as it comes"),
    ),
    "segnext.data.transforms:distort": (official("PhotoMetricDistortion", "unlike SSD's it never swaps channels"),),
    # Testing
    "segnext.testing.evaluate:probabilities": (
        official("scores resized to the image's own size, softmax, flipped back, mean over the passes"),
        ours("flips are passed together, and turned back before the resizing, which is the same"),
    ),
    "segnext.testing.evaluate:scores": (
        official("slide_inference, the mean of the scores of all windows that see a pixel, before any softmax"),
    ),
    "segnext.testing.evaluate:windows": (
        official("slide_inference; a side smaller than the window is one smaller window, without padding"),
    ),
    "segnext.testing.metrics:Boundary": (
        ours(
            "as mean IoU has it: intersections and unions are summed over the split before they are divided, and "
            "ignored pixels are of no class in either map"
        ),
    ),
}
