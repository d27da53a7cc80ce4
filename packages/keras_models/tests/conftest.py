import os

# Before the first test module imports keras: the engine that is tested, and no C++ chatter.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Some virtual machines advertise AMX and then fault on its instructions (bfloat16 only).
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
