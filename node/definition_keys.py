"""The keys a model definition may have, by mapping, so that a mistyped one is noticed (pure).

Source: LocalAI's model definition. A key listed here is accepted; what it does is documented where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


TOP_LEVEL = _words(
    """
    name backend description usage f16 threads debug roles embeddings reranking context_size system_prompt stopwords
    cutstrings extract_regex trimspace trimsuffix grammar known_usecases known_input_modalities
    known_output_modalities feature_flags options overrides step cuda type cfg_scale download_files disabled pinned
    concurrency_groups alias reasoning_effort chat_template_kwargs artifacts compression pii pii_detection router
    proxy mitm limits numa gpu_layers main_gpu tensor_split mmap mmlock low_vram rms_norm_eps ngqa prompt_cache_path
    prompt_cache_all prompt_cache_ro mirostat mirostat_eta mirostat_tau lora_adapter lora_base lora_scale
    lora_adapters lora_scales no_mulmatq draft_model n_draft quantization load_format dtype gpu_memory_utilization
    trust_remote_code enforce_eager disable_log_stats swap_space max_model_len tensor_parallel_size
    limit_mm_per_prompt engine_args mmproj flash_attention no_kv_offloading cache_type_k cache_type_v rope_scaling
    yarn_ext_factor yarn_attn_factor yarn_beta_fast yarn_beta_slow
    parameters template function reasoning diffusers grpc tts pipeline mcp agent
    """
)

PARAMETERS = _words(
    """
    model temperature top_p top_k min_p max_tokens seed n echo batch ignore_eos repeat_penalty repeat_last_n n_keep
    frequency_penalty presence_penalty tfz typical_p logprobs top_logprobs logit_bias negative_prompt
    negative_prompt_scale rope_freq_base rope_freq_scale clip_skip tokenizer language translate encoding_format
    pooling pooling_half_life_tokens
    """
)

BLOCKS: Mapping[str, frozenset[str]] = {
    "parameters": PARAMETERS,
    "template": _words(
        "chat chat_message completion edit function multimodal use_tokenizer_template"
        " join_chat_messages_by_character reply_prefix"
    ),
    "function": _words(
        "disable_no_action no_action_function_name no_action_description_name response_regex json_regex_match"
        " argument_regex argument_regex_key_name argument_regex_value_name replace_function_results"
        " replace_llm_results capture_llm_results function_name_key function_arguments_key xml_format_preset"
        " xml_format automatic_tool_parsing_fallback disable_peg_parser grammar"
    ),
    "reasoning": _words("disable disable_reasoning_tag_prefill strip_reasoning_only thinking_start_tokens tag_pairs"),
    "diffusers": _words(
        "cuda pipeline_type scheduler_type enable_parameters img2img clip_skip clip_model clip_subfolder control_net"
    ),
    "grpc": frozenset({"attempts", "attempts_sleep_time"}),
    "tts": frozenset({"voice", "audio_path", "voice_cloning"}),
    "pipeline": _words(
        "vad transcription llm tts sound_detection sound_detection_window_ms sound_detection_hop_ms reasoning_effort"
        " streaming disable_thinking max_history_items compaction voice_recognition turn_detection classifier"
        " disable_warmup"
    ),
    "mcp": frozenset({"remote", "stdio"}),
    "agent": _words(
        "max_attempts max_iterations enable_reasoning enable_planning enable_mcp_prompts enable_plan_re_evaluator"
        " disable_sink_state loop_detection max_adjustment_attempts force_reasoning_tool"
    ),
}
"""Keys of the mappings that are values of a top-level key."""
