"""The words around verdicts in the languages that judges answer in; verdict_words.json holds the long lists.

All are case-folded. A word that is not here makes a line prose, and prose is no verdict.
"""

import json
import re
from importlib.resources import files

from trustescalate.judges.reply_marks import fold

_LISTS = json.loads((files("trustescalate.judges") / "verdict_words.json").read_text(encoding="utf-8"))

LEAD = frozenset(word for words in _LISTS["lead"].values() for word in fold(words.casefold()).text.split())
"""Words that may stand before a verdict on its line."""

PIECES = tuple(
    sorted(
        (piece for words in _LISTS["pieces"].values() for piece in fold(words).text.split()),
        key=len,
        reverse=True,
    )
)
"""The same for scripts that write words without spaces: they are cut off piece by piece, longest first."""

CONCLUDING = frozenset(
    {"decision", "final", "verdict", "winner", "conclusion", "judgement", "judgment"}
    | {"veredicto", "veredito", "verdetto", "urteil", "oordeel", "вердикт", "werdykt", "karar", "الحكم"}
)
"""Words that make a line of the reasoning a verdict, which the last one must not contradict."""

ARTICLES = frozenset({"a", "an", "ein", "eine", "un", "une", "una", "um", "uma"})

NAMES = (
    r"response|assistant|answer|option|candidate|model|output|choice|text|réponse|respuesta|antwort|ответ|"
    r"回答|答案|回复|응답"
)
"""Nouns before the letter of one of two responses."""

_HELP = r"(?:of )?(?:help|helps|helpful|helped|useful|clear|clarifies|assists)"
PLEASANT = re.compile(
    "|".join(
        (
            r"(?:i |we )?(?:really |sincerely )?hope (?:that |this |it |my )?"
            rf"(?:answer |evaluation |analysis |verdict )?(?:is |was |has been )?{_HELP}"
            r"(?: (?:you|to you|this))?",
            r"(?:please )?"
            r"(?:let me know|feel free to (?:ask|reach out|contact me)|(?:do not|don'?t) hesitate to ask)"
            r"\b.{0,120}",
            r"(?:if you|should you) (?:have|need|want|require)\b.{0,60}"
            r"(?:questions?|help|assistance|clarifications?|details|explanation|analysis|reasoning)\b.{0,80}",
            r"(?:many )?(?:thank you|thanks|thx|cheers)(?: (?:very much|so much|a lot|again|for .{1,80}))?",
            r"(?:best|kind|warm) (?:regards|wishes)|regards|sincerely|yours (?:truly|sincerely)",
            r"have a (?:great|nice|good|wonderful) (?:day|one|evening)|enjoy|good luck|bye|goodbye",
            r"(?:you'?re|you are) welcome|happy to help|glad to help|is there anything else .{0,60}",
            r"(?:the )?end(?: of (?:the )?(?:evaluation|verdict|answer|response|judge?ment|reply|analysis))?",
            r"done|that is all|that's all|finished|eof|complete|completed|finish",
            r"espero que (?:te |le |lhe |isso |esto |isto )?(?:ayude|ajude|sirva).{0,30}|(?:muchas )?gracias|"
            r"obrigad[oa]|saludos|j'espère que .{0,40}|merci(?: .{0,30})?|cordialement|"
            r"spero (?:che|di) .{0,40}|grazie",
            r"ich hoffe,? (?:das|dies|es) (?:hilft|ist hilfreich).{0,30}|vielen dank|danke|viele grüße|"
            r"mit freundlichen grüßen|bedankt|tack|dziękuję|teşekkürler",
            r"надеюсь,? .{0,40}|спасибо(?: .{0,30})?|с уважением|شكرا.{0,20}|धन्यवाद",
            r"希望.{0,12}(?:帮助|幫助|有用).{0,6}|谢谢.{0,6}|謝謝.{0,6}|如有.{0,20}(?:问题|疑问).{0,12}|"
            r"以上(?:です|でした)?|ありがとうございま(?:す|した)|ご参考.{0,16}|参考になれば.{0,8}|"
            r"감사합니다|도움이 되.{0,10}",
        )
    )
)
"""What may follow a verdict: wishes, thanks, an offer of help, an end mark."""

BECAUSE = r"because|since|as it|weil|porque|parce que|perché|потому что|因为|因為|なぜなら|理由是|왜냐하면"
"""Words that begin a reason on the line of the verdict."""

REASONS = (
    rf"{BECAUSE}|explanation|reasons?|reasoning|rationale|justification|analysis|why|explained|begründung|"
    r"erklärung|explicación|razón|razones|motivo|explication|raison|explicação|объяснение|обоснование|причина|"
    r"理由|原因|解释|解釋|説明|说明|이유|설명|السبب|कारण"
)
"""Words that begin an explanation on the lines after the verdict."""

RETRACTION = re.compile(
    r"\b(?:actually|wait|retract\w*|instead|correct(?:ion|ed|ing)|sorry|apolog\w+|mistaken?|mistakenly|kidding|"
    r"jok(?:e|ing)|scratch that|ignore (?:that|this|the|my|above)|disregard|oops|whoops|reconsider\w*|"
    r"second thoughts?|chang(?:e|ed|ing) my (?:mind|verdict|answer)|on reflection|revis(?:e|ed|ing)|"
    r"never ?mind|no longer|withdraw\w*|overrul\w*|not really|just (?:testing|an example)|hypothetical\w*|"
    r"i (?:was|am) wrong|the other one|opposite|or maybe|but maybe|unless|if so|strike that|"
    r"take (?:that|it) back|doch nicht|korrektur|stattdessen|en realidad|perdón|corrección|más bien|en fait|"
    r"pardon|plutôt|erratum|на самом деле|поправка|точнее|вернее)\b|"
    r"等等|其实|其實|更正|抱歉|不对|不對|实际上|實際上|いや|やはり|訂正|間違|すみません|아니|정정|사실은",
    re.IGNORECASE,
)
"""Words that take back what stands before them."""
