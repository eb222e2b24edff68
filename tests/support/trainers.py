"""How trainers resize an image before a model sees it, written from their own sources.

qwen-vl-utils 0.0.14 `fetch_image`, verl 0.9.1 `process_vision_info`, ms-swift 4.6.0
`Qwen2VLTemplate` and `compat_qwen_vl_utils`, EasyR1 0243608 `process_image`; the processor behind
them is transformers' own.
"""

import math

from PIL import Image


def processor_size(size_wh, min_pixels, max_pixels):
    """What transformers' Qwen2-VL image processor makes of an image."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    width, height = size_wh
    new_height, new_width = smart_resize(height, width, 28, min_pixels, max_pixels)
    return new_width, new_height


def fetched_size(size_wh, min_pixels=4 * 784, max_pixels=16384 * 784):
    width, height = size_wh
    rows, columns = max(1, round(height / 28)), max(1, round(width / 28))
    if rows * columns * 784 > max_pixels:
        beta = math.sqrt(width * height / max_pixels)
        rows, columns = math.floor(height / beta / 28), math.floor(width / beta / 28)
    elif rows * columns * 784 < min_pixels:
        beta = math.sqrt(min_pixels / (width * height))
        rows, columns = math.ceil(height * beta / 28), math.ceil(width * beta / 28)
    return columns * 28, rows * 28


def trl(size_wh, processor, limits):
    return processor_size(size_wh, *limits)


def verl(size_wh, processor, limits):
    return processor_size(fetched_size(size_wh, *limits), *processor)


def swift(size_wh, processor, limits):
    return fetched_size(size_wh, *(limit // 784 * 784 for limit in limits))


def easyr1(size_wh, processor, limits):
    image = Image.new("1", size_wh)
    low, high = limits
    for pixels, apart in ((high, 1), (low, -1)):
        area = image.width * image.height
        if apart * area > apart * pixels:
            factor = math.sqrt(pixels / area)
            image = image.resize((int(image.width * factor), int(image.height * factor)))
    return processor_size(image.size, *processor)
