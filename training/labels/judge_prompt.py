"""The judge's prompt of Post-SFT, word for word (Q-Zoom, appendix A-B, Post-SFT judge prompt).

Interface data: figures of the paper were mined with exactly these words.
"""

from typing import Final

SYSTEM: Final = (
    "You are a fair and robust evaluator. You focus on semantic correctness over strict string "
    "matching."
)

USER: Final = """\
You are an intelligent evaluator for a Visual Question Answering task.
Compare the Model Predictions against the Ground Truth.

--- DATA ---
Question: {question}
Ground Truth: {ground_truth}
Model A Prediction: {base_response}
Model B Prediction: {roi_response}

--- CRITERIA ---
1. Containment: If the Ground Truth is a short value (e.g., '6000') and the Model Prediction \
contains it correctly within a sentence (e.g., 'The value is 6000'), mark it as Yes.
2. Synonyms: Accept standard synonyms (e.g., 'Yes' = 'True', '10%' = '0.1').
3. Formatting: Ignore punctuation or capitalization differences (e.g., 'april' = 'April').
4. Contradiction: Only mark 'No' if the prediction is factually wrong or missing the key \
information.

--- TASK ---
Does Model A provide the correct answer? (Yes/No)
Does Model B provide the correct answer? (Yes/No)

Respond in this exact format:
A: [Yes/No]
B: [Yes/No]
"""
