"""What each check for gradient masking means, and what to do where it raises a flag."""

from typing import NamedTuple

from grfd.evaluation.results import Check
from grfd.report.html.content import RaisedFlag


class Advice(NamedTuple):
    """The meaning of a raised flag, and what to do about it."""

    meaning: str
    action: str


ADVICE: dict[str, Advice] = {
    "clean accuracy at chance": Advice(
        "The model is hardly better than guessing on clean images, so its robust accuracy says nothing.",
        "Check the weights, the normalisation of the images and the order of the classes.",
    ),
    "vanishing gradients": Advice(
        "Many gradients are zero, so that attacks by gradient do not know where to go.",
        "Give the model a surrogate() whose gradient is useful, and trust only the adaptive protocol.",
    ),
    "untrue gradients": Advice(
        "The gradient does not predict how the output changes, so attacks by gradient follow a wrong direction.",
        "Give the model a surrogate() without the step that hides the gradient (BPDA), and evaluate it again.",
    ),
    "random outputs": Advice(
        "Two answers to the same image differ although the model does not declare that it is random.",
        "Set stochastic = True on the model, so that attacks average over its draws, or turn the randomness off.",
    ),
    "answers depend on the batch": Advice(
        "The answer to an image depends on the other images of its batch, for example by batch norm in training mode.",
        "Call eval() on the model before it is judged, or compute its statistics for each image alone.",
    ),
    "not a number": Advice(
        "Some logits are NaN or infinite. Attacks cannot make progress at such values.",
        "Find the operation that overflows and compute it in a stable way.",
    ),
    "saturated logits": Advice(
        "The logits of some images are so much larger than those of others that a softmax underflows at every scale.",
        "Bound the logits, or trust only the attacks that climb the margin: the adaptive protocol and AutoAttack.",
    ),
    "probabilities for logits": Advice(
        "The model returns probabilities. A second softmax flattens the loss that attacks climb.",
        "Return the logits before the softmax.",
    ),
    "inputs of another scale": Advice(
        "The model seems to expect images of another range than [0, 1].",
        "Use --adapter to normalise images inside the model.",
    ),
    "robust at ε = 0.5": Advice(
        "Within ε = 0.5 every image can be made uniformly grey, and yet the model is right. The attack failed.",
        "Do not trust the robust accuracy. Look for hidden gradients, and attack with more steps and restarts.",
    ),
    "single step beats iterative": Advice(
        "One large step finds more adversarial examples than many small ones: iterative attacks are obstructed.",
        "Look for randomness or rounding in the model, and attack a smooth surrogate().",
    ),
    "gradient-free beats white-box": Advice(
        "An attack without gradients is stronger than one with gradients, which therefore mislead.",
        "Trust the smaller of the two accuracies, and attack a surrogate() with useful gradients.",
    ),
    "logit jumps": Advice(
        "The output jumps where the gradient announces no change, as it does after rounding.",
        "Give the model a surrogate() without the jumps (BPDA), and evaluate it again.",
    ),
    "unfinished optimisation": Advice(
        "Twice as many steps of PGD find clearly more adversarial examples.",
        "Evaluate again with more steps. Read the present accuracy as an upper bound.",
    ),
    "surrogate fooled, defense not": Advice(
        "The adversarial examples fool the surrogate but not the defense: the surrogate is a bad stand-in.",
        "Write a surrogate() that is closer to the defense, or attack the defense without gradients.",
    ),
    "gradients at inference": Advice(
        "The model optimises something itself whenever it answers, and attacks may not differentiate that.",
        "Give the model a surrogate(), and attack through several steps of it.",
    ),
    "transfer beats white-box": Advice(
        "Examples made on another model fool this one more often than examples made on itself. Its gradients mislead.",
        "Trust the smaller accuracy and the adaptive protocol, which contains both.",
    ),
    "curve ends near 0": Advice(
        "Even at the largest ε, at which every image can be made grey, the model is right. The attack failed.",
        "Do not trust the curve. Attack with more steps, other losses or a better surrogate().",
    ),
}
"""Check → its advice. A test compares the names with those of the checks."""

_OTHERWISE = Advice("The check measured something that an honest model does not show.", "Look at the measured numbers.")


def raised_flag(check: Check, title: str) -> RaisedFlag:
    """A flagged check with its advice. `title`: that of the model."""
    meaning, action = ADVICE.get(check.name, _OTHERWISE)
    return RaisedFlag(title, check.name, check.detail, meaning, action)
