"""BabyAI's levels as text: ``babyai`` is a family of forty, ``babyai-goto`` one small room."""
