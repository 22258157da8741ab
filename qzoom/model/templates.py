"""The prompts that published checkpoints were trained with, character for character.

Interface data, not prose of ours: a checkpoint answers worse if one character changes. A
checkpoint's own chat template always comes first; these serve folders that have none.
"""

from typing import Final

from qzoom.model.config import Family

IMAGE_MARK: Final[dict[Family, str]] = {
    "qwen2_5_vl": "<|image_pad|>",
    "qwen3_vl": "<|image_pad|>",
    "llava": "<image>",
}
"""Text by which each family's chat template says where a picture's tokens go."""

QWEN2_5_VL: Final = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}"
    "{% endif %}"
    "<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Turns of Qwen2.5-VL-Instruct with its default system turn (Qwen/Qwen2.5-VL-7B-Instruct,
chat_template.json), without its branches for videos and numbered pictures."""

QWEN3_VL: Final = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}"
    "{% endif %}"
    "<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Turns of Qwen3-VL-Instruct, which has no default system turn (Qwen/Qwen3-VL-4B-Instruct,
chat_template.json), without its branches for videos and tools."""

VICUNA_V1: Final = (
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}"
    "{% else %}"
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
    "{% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}"
    "{{ '' if loop.index0 and messages[loop.index0 - 1]['role'] == 'assistant' else ' ' }}USER: "
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}"
    "{% elif message['role'] == 'assistant' %} ASSISTANT: {{ message['content'] }}</s>"
    "{% elif not loop.first %}{{ raise_exception('vicuna_v1 takes a system turn at the start') }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)
"""Conversation `vicuna_v1` of LLaVA-1.5 (haotian-liu/LLaVA, llava/conversation.py): its system
sentence, `USER:` and `ASSISTANT:`, a space before a turn and `</s>` after an answer."""

CHAT_TEMPLATES: Final[dict[Family, str]] = {
    "qwen2_5_vl": QWEN2_5_VL,
    "qwen3_vl": QWEN3_VL,
    "llava": VICUNA_V1,
}
