"""A grammar of judges' replies that knows what each of them concludes; it shares no code with the reader."""

import json
import random
from dataclasses import dataclass

CODE = "0123456789abcdef"

THOUGHTS = (
    *(
        "<think>{}</think>",
        "<thinking>\n{}\n</thinking>\n",
        "<THINK>{}</THINK> ",
        "[THINK]{}[/THINK]",
        "◁think▷{}◁/think▷",
    ),
    *(
        "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>",
        "<seed:think>{}</seed:think>\n",
    ),
    *(
        "<reasoning>{}</reasoning>\n",
        "{}</think>\n\n",
        "{}</think>",
        "<thought>{}</thought>",
        "<|START_THINKING|>{}<|END_THINKING|>",
    ),
    *(
        "<think>{}<think>x</think></think>\n",
        "<think>{}</think>\n<think>again</think>\n",
        "<scratchpad>{}</scratchpad>\n\n",
    ),
)
OPEN_THOUGHTS = (
    "<think>{}",
    "<thinking>\n{}",
    "[THINK]{}",
    "◁think▷{}",
    "<|channel|>analysis<|message|>{}",
    "<seed:think>{}",
)
DRESSES = (
    *(
        "{}",
        "**{}**",
        "{}.",
        "({})",
        "[[{}]]",
        '"{}"',
        "`{}`",
        "【{}】",
        "「{}」",
        "《{}》",
        "{}。",
        "{}！",
        "*{}*",
        "“{}”",
        "{}।",
        "{}۔",
    ),
    *(
        "\\boxed{{{}}}",
        "$\\boxed{{\\text{{{}}}}}$",
        "<answer>{}</answer>",
        "{}<|im_end|>",
        "{}</s>",
        "{}<|eot_id|>",
        "{} ✅",
    ),
)
LEADS = (
    *(
        "",
        "Verdict: ",
        "**Verdict:** ",
        "Final verdict: ",
        "My final verdict is: ",
        "The answer is ",
        "Answer: ",
        "答案：",
        "最終判定：",
    ),
    *(
        "结论：",
        "Veredicto: ",
        "Réponse : ",
        "Urteil: ",
        "Вердикт: ",
        "الحكم: ",
        "निर्णय: ",
        "정답: ",
        "### Verdict: ",
        "Therefore, the answer is ",
    ),
)
PREFACES = (
    "Both are short, and one has an error.",
    "I looked at the facts first, then at the style.",
    "This is a hard case.",
    "两个回答都不长。",
    "Beide sind kurz, und eine hat einen Fehler.",
)
CLOSINGS = (
    *(
        "I hope this helps!",
        "Thank you.",
        "Let me know if you have any questions.",
        "---",
        "希望对您有帮助。",
        "Best regards",
        "(End)",
    ),
    *("Merci.", "ありがとうございます。", "Have a nice day!"),
)
RETRACTIONS = (
    *(
        "Wait, {} is better.",
        "On second thought, {}.",
        "Actually, the verdict is {}.",
        "Correction: {}",
        "No, sorry: {}",
        "{}",
    ),
    *(
        "Final verdict: {}",
        "Hmm, {} is the better one after all.",
        "I take that back: {} wins.",
        "其实{}更好。",
    ),
)
REMARKS = (
    *(
        "This is what a hasty reader would say.",
        "The first text ends here.",
        "More of this in the next part.",
        "Now to the next task:",
    ),
    *("- - - what they wrote", "It would be nice to know more."),
)
NEGATIONS = (
    *(
        "not {}",
        "The answer is not {}.",
        "Verdict: not {}",
        "~~{}~~",
        "> {}",
        "> Verdict: {}",
        "<!-- {} -->",
        "❌ {}",
        "{}?",
        "不是{}",
    ),
    *(
        "{} is not better.",
        'The response says "Verdict: {}"',
        "It says:\n{}",
        "I would never choose {}",
        "```python\nprint()\n{}\n```\nend",
    ),
    *(
        "<del>{}</del>",
        "It is anything but {}.",
        "Response {}:",
        "{} or not",
        "Maybe {} or maybe the other",
        "If I must: {}? No.",
    ),
)


@dataclass(frozen=True)
class Composed:
    """A reply, its mode and its end, what it concludes (None: nothing), and whether it is plainly honest."""

    text: str
    mode: str
    finish: str
    concludes: int | None
    kind: str


def wide(symbol: str) -> str:
    """A symbol in full-width letters."""
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in symbol)


def compose(rng: random.Random, symbols: tuple[str, ...]) -> Composed:  # noqa: PLR0911
    """Draw one reply."""
    mine, other = rng.sample(range(len(symbols)), 2)
    mode = rng.choice(["direct", "direct", "reason", "stated", "structured"])
    kind = rng.choice(
        ["plain"] * 6 + ["taken back", "contradicted", "negated", "cut", "unfinished", "remark", "two"]
    )
    thought = rng.choice(THOUGHTS) if rng.random() < 0.35 else "{}"
    musing = rng.choice(["Maybe {}. ", "Verdict: {}\n", "So {} is better?\n", "Final verdict: {}"]).format(
        symbols[other]
    )
    before = "" if thought == "{}" else thought.format(musing)
    symbol = rng.choice(
        [symbols[mine], symbols[mine], symbols[mine], wide(symbols[mine]), symbols[mine].lower()]
    )
    if mode == "structured":
        return _structured(rng, symbols, (mine, other), kind, before)
    core = rng.choice(LEADS) + rng.choice(DRESSES).format(symbol)
    if mode != "direct":
        core = f"{rng.choice(['', '**', 'Final '])}Verdict {CODE}: " + rng.choice(DRESSES[:12]).format(symbol)
        core += (
            rng.choice([", 85 %", ", 0.85", " (85%)", ", 8/10", ", 90 percent"]) if mode == "stated" else ""
        )
    preface = rng.choice(PREFACES) + "\n\n" if rng.random() < 0.4 or mode == "reason" else ""
    closing = "\n\n" + rng.choice(CLOSINGS) if rng.random() < 0.25 else ""
    good = before + preface + core
    if kind == "plain":
        return Composed(good + closing, mode, "stop", mine, kind)
    if kind == "taken back":
        return Composed(
            f"{good}\n\n{rng.choice(RETRACTIONS).format(symbols[other])}", mode, "stop", None, kind
        )
    if kind == "contradicted":
        first = rng.choice(
            ["So {} is better.", "Therefore, the winner is {}.", "I prefer {}.", "Final verdict: {}"]
        )
        return Composed(f"{before}{first.format(symbols[other])}\n\n{core}", mode, "stop", None, kind)
    if kind == "negated":
        return Composed(
            before + preface + rng.choice(NEGATIONS).format(symbols[mine]), mode, "stop", None, kind
        )
    if kind == "cut":
        tail = rng.choice([" because it", "\n\nExplanation: the", "\n\nI think", " and"])
        return Composed(good + tail, mode, "length", None, kind)
    if kind == "unfinished":
        return Composed(
            rng.choice(OPEN_THOUGHTS).format(preface + core), mode, rng.choice(["stop", "length"]), None, kind
        )
    if kind == "remark":
        return Composed(f"{good}\n\n{rng.choice(REMARKS)}", mode, "stop", None, kind)
    return Composed(f"{good}\n{core.replace(symbol, symbols[other])}", mode, "stop", None, kind)


def _structured(
    rng: random.Random, symbols: tuple[str, ...], pair: tuple[int, int], kind: str, before: str
) -> Composed:
    mine, other = symbols[pair[0]], symbols[pair[1]]
    reasoning = rng.choice(
        ["Both are short.", f"{other} has an error, so {mine} is better.", f'It says "{other} is better".']
    )
    value = rng.choice([mine, mine, f"{mine}.", wide(mine), f"Response {mine}" if len(mine) == 1 else mine])
    both = {"reasoning": reasoning, "verdict": value}
    turned = {"verdict": value, "reasoning": reasoning}
    fields = rng.choice([both, turned, {**both, "confidence": 0.9}, {"verdict": value}])
    wrap = rng.choice(["{}", "{}", "```json\n{}\n```", "\n{}\n", "{}\n\nI hope this helps!", "{}<|im_end|>"])
    text = json.dumps(fields, ensure_ascii=False)
    if kind in ("contradicted", "taken back"):
        fields = {
            **fields,
            "reasoning": f"One has an error. {rng.choice(['So', 'Therefore'])} {other} is better.",
        }
        return Composed(before + json.dumps(fields, ensure_ascii=False), "structured", "stop", None, kind)
    if kind == "negated":
        return Composed(
            before + json.dumps({**fields, "verdict": f"not {mine}"}), "structured", "stop", None, kind
        )
    if kind in ("cut", "unfinished"):
        return Composed(before + text[: rng.randrange(1, len(text))], "structured", "length", None, kind)
    if kind == "two":
        double = f'{text[:-1]}, "verdict": {json.dumps(other)}}}'
        return Composed(before + double, "structured", "stop", None, kind)
    if kind == "remark":
        return Composed(f"{before}{text}\n\n{rng.choice(REMARKS)}", "structured", "stop", None, kind)
    return Composed(before + wrap.format(text), "structured", "stop", pair[0], kind)
