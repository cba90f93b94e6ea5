"""The keys a model definition may have, and what each one takes (pure).

Source: LocalAI's model definition. A key listed here is accepted with a value of its kind; what it does is documented
where it is used, and most keys of backends that this program does not have do nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Kind(Enum):
    """What a key takes; the value is how messages call it."""

    TEXT = "text"
    WORD = "a word or a number"
    FLAG = "true or false"
    WHOLE = "a whole number"
    NUMBER = "a number"
    COUNT = "true, false or a whole number"
    TEXTS = "a list of texts"
    NUMBERS = "a list of numbers"
    MAPPINGS = "a list of mappings"
    MAPPING = "a mapping"
    TEXT_MAPPING = "a mapping to texts"
    FLAG_MAPPING = "a mapping to true or false"
    WHOLE_MAPPING = "a mapping to whole numbers"
    ANYTHING = "anything"


def _keys(**texts: str) -> Mapping[str, Kind]:
    """Key -> kind, from lists of keys by the name of their kind."""
    return {key: Kind[kind.upper()] for kind, keys in texts.items() for key in keys.split()}


TOP_LEVEL = _keys(
    text="name backend description usage system_prompt grammar alias prompt_cache_path lora_adapter lora_base"
    " draft_model mmproj reasoning_effort share",
    word="type main_gpu tensor_split quantization load_format dtype flash_attention cache_type_k cache_type_v"
    " rope_scaling",
    flag="f16 debug embeddings reranking cuda disabled pinned numa mmap mmlock low_vram prompt_cache_all"
    " prompt_cache_ro no_mulmatq trust_remote_code enforce_eager disable_log_stats no_kv_offloading",
    whole="threads context_size step gpu_layers ngqa mirostat n_draft swap_space max_model_len tensor_parallel_size",
    number="cfg_scale rms_norm_eps mirostat_eta mirostat_tau lora_scale gpu_memory_utilization yarn_ext_factor"
    " yarn_attn_factor yarn_beta_fast yarn_beta_slow",
    texts="stopwords cutstrings extract_regex trimspace trimsuffix known_usecases known_input_modalities"
    " known_output_modalities options overrides concurrency_groups lora_adapters",
    numbers="lora_scales",
    mappings="download_files artifacts",
    mapping="chat_template_kwargs engine_args parameters template function reasoning diffusers grpc tts pipeline mcp"
    " agent",
    text_mapping="roles",
    flag_mapping="feature_flags",
    whole_mapping="limit_mm_per_prompt",
    anything="compression pii pii_detection router proxy mitm limits",
)

PARAMETERS = _keys(
    text="model negative_prompt tokenizer language encoding_format pooling",
    flag="echo ignore_eos translate",
    whole="top_k max_tokens seed n batch repeat_last_n n_keep top_logprobs clip_skip",
    number="temperature top_p min_p repeat_penalty frequency_penalty presence_penalty tfz typical_p"
    " negative_prompt_scale rope_freq_base rope_freq_scale pooling_half_life_tokens",
    count="logprobs",
    mapping="logit_bias",
)

BLOCKS: Mapping[str, Mapping[str, Kind]] = {
    "parameters": PARAMETERS,
    "template": _keys(
        text="chat chat_message completion edit function multimodal join_chat_messages_by_character reply_prefix",
        flag="use_tokenizer_template",
    ),
    "function": _keys(
        text="no_action_function_name no_action_description_name argument_regex_key_name argument_regex_value_name"
        " function_name_key function_arguments_key xml_format_preset",
        flag="disable_no_action automatic_tool_parsing_fallback disable_peg_parser",
        texts="response_regex json_regex_match argument_regex capture_llm_results",
        mappings="replace_function_results replace_llm_results",
        mapping="xml_format grammar",
    ),
    "function.grammar": _keys(
        text="prefix properties_order schema_type",
        flag="disable parallel_calls disable_parallel_new_lines mixed_mode no_mixed_free_string"
        " expect_strings_after_json",
        mappings="triggers",
    ),
    "function.xml_format": _keys(
        text="scope_start tool_start tool_sep key_start key_val_sep val_end tool_end scope_end key_val_sep2"
        " last_val_end last_tool_end",
        flag="raw_argval trim_raw_argval allow_toolcall_in_think",
    ),
    "reasoning": _keys(
        flag="disable disable_reasoning_tag_prefill strip_reasoning_only",
        texts="thinking_start_tokens",
        mappings="tag_pairs",
    ),
    "diffusers": _keys(
        text="pipeline_type scheduler_type enable_parameters clip_model clip_subfolder control_net",
        flag="cuda img2img",
        whole="clip_skip",
    ),
    "grpc": _keys(whole="attempts attempts_sleep_time"),
    "tts": _keys(word="voice", text="audio_path", anything="voice_cloning"),
    "pipeline": _keys(
        text="vad transcription llm tts sound_detection reasoning_effort",
        flag="disable_thinking disable_warmup",
        whole="sound_detection_window_ms sound_detection_hop_ms max_history_items",
        mapping="streaming compaction voice_recognition turn_detection classifier",
    ),
    "mcp": _keys(text="remote stdio"),
    "agent": _keys(
        whole="max_attempts max_iterations loop_detection max_adjustment_attempts",
        flag="enable_reasoning enable_planning enable_mcp_prompts enable_plan_re_evaluator disable_sink_state",
        word="force_reasoning_tool",
    ),
}
"""Keys of the mappings that are values of other keys; a dot leads into one."""

WITHOUT_EFFECT = frozenset(
    [
        "grammar",
        "lora_adapter",
        "lora_adapters",
        "mirostat",
        "overrides",
        "rope_scaling",
        "reasoning_effort",
        "chat_template_kwargs",
        "parameters.logit_bias",
        "parameters.rope_freq_base",
        "parameters.rope_freq_scale",
    ]
)
"""Keys that would make other answers, and that nothing here acts on yet: whoever sets one is told."""
