"""avexp: experiments for driving perception, from recorded drives to proven inference plans."""

__version__ = "0.1.0"
