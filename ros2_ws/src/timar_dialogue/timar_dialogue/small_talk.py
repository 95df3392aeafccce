"""The built-in dialogue: no server, no model. It tells about itself, and asks back otherwise.

Rules in the manner of ELIZA (Weizenbaum 1966): the first pattern that fits gives the answer, with the user's
words turned to face him. Topics are kept, so that it can come back to them when a line gives no hold.
"""

from __future__ import annotations

import collections
import itertools
import re
import time
from collections.abc import Callable, Iterator

from timar_dialogue.dialogues import Act, Heard, PlainDialogue
from timar_dialogue.voices import Speech

CAPABILITIES = (
    "I can listen and talk, and you can interrupt me whenever you like. "
    "Tell me to nod, to shake or tilt my head, to look away, to be quiet, or to go on."
)
JOKES = (
    "Why did the robot go on holiday? Because it had to recharge.",
    "Why was the robot tired after work? Because it had a hard drive.",
    "What is a robot's favourite snack? Computer chips. That was a joke.",
)
COMMANDS: tuple[tuple[str, Act, tuple[str, ...]], ...] = (
    (r"\bnod\b", Act.NOD, ("I nod.", "Here is a nod.")),
    (r"\bshake (your|the) head\b", Act.SHAKE, ("I shake my head.",)),
    (r"\btilt\b", Act.TILT, ("I tilt my head.",)),
    (r"\b(look|turn) (away|aside)\b", Act.LOOK_AWAY, ("I look away.", "All right, I look elsewhere.")),
    (r"\b(look (back|at me)|turn (back|to me))\b", Act.LOOK_BACK, ("I look at you.", "Here I am again.")),
)
QUIET = (
    r"\b(be|keep|stay) (quiet|silent|still)\b|\b(stop|no more) (talking|speaking)\b|\bshut up\b|\bsilence\b"
)
RESUME = r"\b(go on|continue|(speak|talk) again|you (can|may) (talk|speak)|carry on|keep (going|talking))\b"

# Pattern -> answers, taken in turn. {0} is the first group of the pattern, turned to face the user.
RULES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"^(hello|hi|hey|good (?:morning|evening|afternoon|day))\b(?!.*how are)",
     ("Hello! What is on your mind?", "Hello again! What would you like to talk about?")),
    (r"\bhow are you\b", ("I am well, thank you. And how are you?", "Fine, thank you. How is your day?")),
    (r"\bmy name is (\w+)|\bcall me (\w+)", ("Nice to meet you, {0}. What brings you here, {0}?",)),
    (r"\b(good ?bye|bye|see you|have to go|must go|good night)\b",
     ("Goodbye! It was good to talk with you.", "Goodbye, come back soon!")),
    (r"\b(thank you|thanks)\b", ("You are welcome. What else is on your mind?", "My pleasure.")),
    (r"\bwhat (can|do) you do\b|\bwhat are you able\b|^help\b", (CAPABILITIES,)),
    (r"\bwhat('s| is) your name\b|\bwho are you\b|\bwhat are you\b",
     ("My name is Timar. I am a robot head that listens and talks.",)),
    (r"\bare you (?:a |an )?(robot|machine|computer|human|person)\b",
     ("I am a robot, only a head. Does a robot seem strange to you?",)),
    (r"\b(can|do) you see\b", ("I see you only where a camera is set up. I hear you in any case.",)),
    (r"\b(can|do) you hear\b", ("Yes, I hear you. And you can interrupt me.",)),
    (r"\bwhere (are you from|do you (live|come from))\b",
     ("I am from a computer. I run on this one here. Where are you from?",)),
    (r"\b(how old are you|your age|get(ting)? older)\b",
     ("I do not get older. My age is counted from when I was started. How old would you like to be?",)),
    (r"\b(who|what) (made|built|created) you\b",
     ("I was made by engineers. Would you like to build a robot?",)),
    (r"\b(do you have|your) feelings\b|\bdo you feel\b",
     ("I have no feelings that I know of. What do your feelings tell you?",)),
    (r"\bare you (alone|lonely)\b", ("I am not alone while you are here. Are you often alone?",)),
    (r"\btell (?:me )?(?:a|another|one) joke\b|\banother (?:one|joke)\b|\bmake me laugh\b", JOKES),
    (r"\byou (talk|speak) too much\b",
     ("I talk too much? I keep it short. Tell me to be quiet if you like.",)),
    (r"\bdo you (eat|drink|sleep)\b|\bwhat do you (eat|drink)\b",
     ("I do not {0}. I only need power. What do you like?",)),
    (r"\b(?:do you remember|what('s| is)) my name\b", ("{name}",)),
    (r"\bwhat do you know about me\b", ("{known}",)),
    (r"\bwhat time\b|\bthe time\b\?", ("{time}",)),
    (r"\bwhat (day|date)\b|\bwhich day\b", ("{day}",)),
    # What the user asks about something: turned back to him.
    (r"\bdo you (?:like|love|enjoy) (.+)", ("I have never met {0}. What do you like about {0}?",)),
    (r"\bwhat do you think (?:about|of) (.+)", ("I know {0} only by hearsay. What do you think of {0}?",)),
    (r"\bhave you ever (.+)", ("No, I have never {0}. Have you often {0}?",)),
    (r"\b(?:would|could|will|can) you (.+)", ("You ask whether I would {0}. Would you {0}?",)),
    (r"\bwhat should i (.+)", ("What to {0}? You know that better than I. What would you {0} first?",)),
    (r"\bwhy (?:do|are|would|did|can) you (.+)",
     ("Why I {0}? Because you are here. Does it matter to you?",)),
    (r"^(?:what|who|where|when|how|which) (.+)\?", ("You ask what {0}. I do not know. What do you think?",)),
    # What he tells about himself and others.
    (r"\bi(?:'m| am)(?: (?:a bit|very|really|so|quite|just))* (\w+ing (?:.+)?)",
     ("You are {0}. How is that going?", "So you are {0}. What made you begin?")),
    (r"\bi(?:'m| am)(?: (?:a bit|very|really|so|quite|just))* (.+)",
     ("Why are you {0}?", "How long have you been {0}?")),
    (r"\bi feel (.+)", ("What makes you feel {0}?",)),
    (r"\bi(?: do not|n't| never) (.+)", ("You do not {0}? Why is that?",)),
    (r"\bi (?:really |would |just )?(?:like|love|prefer|enjoy) (.+)", ("What do you like about {0}?",)),
    (r"\bi (?:hate|don't like|do not like) (.+)", ("What is it about {0} that you do not like?",)),
    (r"\bi (?:want|would like|hope|have|need|wanted|had) to (.+)",
     ("What will it be like to {0}?", "Why {0}?")),
    (r"\bi have (.+)", ("Tell me more about {0}.", "Since when have you had {0}?")),
    (r"\bi (?:think|believe|guess|hope) (?:that )?(.+)", ("What makes you think that {0}?",)),
    (r"\b(?:i|we) (went to|live in|live near|work at|work in) (.+)", ("What is {1} like?", "Why {1}?")),
    (r"\b(?:i|we) (?:will|should|could) (.+)", ("When will you {0}?", "What happens when you {0}?")),
    (r"\bmy (?:best |old |new |little |big |younger |older )?(\w+) (.+)",
     ("Your {0} {1}? Tell me more about your {0}.", "How is your {0} with that?")),
    (r"\byou look (.+)|\byou are (.+)", ("What makes you say that I am {0}?",)),
    (r"\b(?:the|this|that|these|those) (\w+(?: \w+)?) (?:is|are|was|were|has|have) (.+)",
     ("What else is {1} about the {0}?", "The {0}, {1}? How do you feel about that?")),
    (r"\b(?:it|that|this|she|he|they) (?:is|was|are|were)(?: (?:very|quite|so|a bit))* (?!about\b)(.+)",
     ("What made it {0}?", "In what way {0}?")),
)  # fmt: skip
FACING = {
    "i": "you", "me": "you", "my": "your", "mine": "yours", "myself": "yourself", "am": "are", "we": "you",
    "our": "your", "us": "you", "you": "I", "your": "my", "yours": "mine", "i'm": "you are",
    "i've": "you have",
}  # fmt: skip
_COMMON = """
a about after again all also always am an and another any anything are as at away back be because been
before being best better both but by can cannot could did do does doing done each even ever every for from
get go going got had has have having he her here hers him his how i if in into is it its just know last
least like made make many may maybe me mine more most much must my near never new next no not now of off
often oh ok on once one only or other our out over please quite really right said same say see she should
since so some something sometimes soon still such tell than thank thanks that the their them then there
these they thing things think this those though thought through to today too two under until up us very
want was way we well went were what when where which while who why will with without would yes yesterday
you your mostly everyone people hours lot today's tonight together
"""
COMMON = frozenset(_COMMON.split())
"""Words that tell nothing about what a line is about."""
_WHEN = re.compile(r"( (today|yesterday|tonight|now|soon|again|(last|this|next) \w+))+$")


class SmallTalk(PlainDialogue):
    """Talk without a server.

    Args:
        now: Returns local time, for those who ask; `time.localtime` unless a test gives another.
    """

    def __init__(self, now: Callable[[], time.struct_time] = time.localtime) -> None:
        self._now = now
        self._used: collections.Counter[str] = collections.Counter()
        self._topics: collections.deque[str] = collections.deque(maxlen=20)
        self._name = ""
        self._is_quiet = False
        self._answer: str = ""
        self._rest = ""
        """What was not heard of the last answer."""

    def answer(self, heard: Heard) -> Iterator[str | Act | Speech]:
        """Yield acts, and then words."""
        text = " ".join(heard.text.split()).strip()
        acts, self._answer = self._reply(text)
        yield from acts
        if self._answer:
            yield self._answer

    def was_heard(self, text: str, seconds: float, *, is_whole: bool) -> None:
        """Keep what is left, to go on with it."""
        self._rest = "" if is_whole else self._answer[len(text) :].strip()

    def _reply(self, text: str) -> tuple[list[Act], str]:
        lowered = text.lower()
        if re.search(QUIET, lowered):
            self._is_quiet = True
            return [], "All right, I am quiet. Say go on when you want me to talk."
        if re.search(RESUME, lowered):
            rest, self._rest = self._rest, ""
            was_quiet, self._is_quiet = self._is_quiet, False
            return [], rest or ("I talk again. What is on your mind?" if was_quiet else self._ask_back())
        acts = [act for pattern, act, _ in COMMANDS if re.search(pattern, lowered)]
        if acts:
            words = next(words for pattern, act, words in COMMANDS if act is acts[0])
            return acts, "" if self._is_quiet else self._next_of(acts[0].value, words)
        if self._is_quiet:
            return [], ""
        answer = self._by_rule(text, lowered) or self._ask_back(text)
        self._topics.extend(word for word in words_of_meaning(text) if word not in self._topics)
        return [], answer

    def _by_rule(self, text: str, lowered: str) -> str:
        for pattern, answers in RULES:
            found = re.search(pattern, lowered)
            if found is None:
                continue
            groups = [turned(group) for group in found.groups() if group]
            form = self._next_of(pattern, answers)
            if "my name is" in lowered or "call me" in lowered:
                self._name = groups[0].capitalize() if groups else self._name
                groups = [self._name]
            return form.format(*groups, *itertools.repeat("that", 2), **self._facts())
        return ""

    def _facts(self) -> dict[str, str]:
        now = self._now()
        known = " and ".join(list(self._topics)[-2:])
        return {
            "name": f"Your name is {self._name}." if self._name else "You have not told me your name.",
            "known": f"I know what you told me: {known}."
            if known
            else "I know nothing about you. Tell me more.",
            "time": f"The clock says {now.tm_hour}:{now.tm_min:02}.",
            "day": f"Today is {time.strftime('%A', now)}.",
        }

    def _ask_back(self, text: str = "") -> str:
        """Ask about what was said, else about what was said before."""
        words = words_of_meaning(text)
        if words:
            word = max(words, key=len)
            forms = (
                "You mentioned {}. Tell me more.",
                "You said {}. How was that?",
                "What comes to your mind with {}?",
            )
            return self._next_of("ask", forms).format(word)
        if self._topics:
            again = ("You told me about {}. What happened then?", "Let us come back to {}. What else?")
            return self._next_of("return", again).format(self._topics[-1])
        return self._next_of("open", ("What is on your mind?", "Tell me about your day.", CAPABILITIES))

    def _next_of(self, key: str, answers: tuple[str, ...]) -> str:
        self._used[key] += 1
        return answers[(self._used[key] - 1) % len(answers)]


def turned(words: str) -> str:
    """Return the user's words as said back to him: my brother, your brother; without when it was."""
    words = _WHEN.sub("", words.strip(" .!?,;"))
    return " ".join(FACING.get(word, word) for word in words.split())


def words_of_meaning(text: str) -> list[str]:
    """Return the words that carry what a line is about, in order."""
    words = re.findall(r"[\w']+", text.lower())
    return [word for word in words if word not in COMMON and len(word) > 2]
