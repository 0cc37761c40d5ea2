__version__ = "0.1.0"

import warnings

# what fastai and tqdm say to those who maintain them when they are imported
warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
warnings.filterwarnings("ignore", "IProgress not found")
