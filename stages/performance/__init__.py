"""What the person of a clip does.

Stage `body` measures posture and hands, stage `verification` asks a model for the clip's class, stage `performance`
reads face, body and voice (`context`) into events and a caption.
"""
